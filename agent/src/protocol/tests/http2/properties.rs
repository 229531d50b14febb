//! What holds for every sequence of frames.
