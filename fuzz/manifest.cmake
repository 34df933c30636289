# Seeds at the size limit make inputs that take 3 ms each; whether a text is too long needs no fuzzing.
# fuzz-max-len: 4096
ramet_fuzz_target(manifest DEPS lib/store)
