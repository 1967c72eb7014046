"""Tables, figures, verdicts and pages, from records."""
