"""Plans carried out: one run after the other, several at once, on several machines."""
