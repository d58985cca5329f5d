"""The counterexamples as stories, told twice: with the rule that defeats each, and with that rule broken."""
