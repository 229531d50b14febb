//! Stage 0: make the kernel speak.
