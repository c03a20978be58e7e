"""The pure core, shown without an event loop: rule by rule, by machine and by fuzzing."""
