"""Which of the paper's claims hold: records in, verdicts out, each with the figures and runs that it rests on."""
