//! The wire formats against `tests/vectors`, which the Python codecs are tested against too.
