"""Templates that hooks render: Jinja2's syntax, evaluated within a budget.

Jinja2 reads a template; what it read is turned into closures here, which
know text, numbers, lists and mappings and nothing else. No attribute of a
Python object is ever looked up by a template's name for it, and every step
and every byte made is counted: docs/decisions/templates.md says why.
"""
