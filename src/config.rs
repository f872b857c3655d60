//! One typed configuration, checked before anything is bound.
