"""The schema of the whole configuration: which keys there are, of which kind and in which range their values are.

`kinds` and `groups` make types for pydantic, ``*_keys`` are the schema itself, `validate` compares a configuration with
it, and `check` refuses one that is wrong. A key of ``conf/`` is one line in one of the ``*_keys``.
"""
