"""The external memory of which a step touches a few slots, however many there are."""
