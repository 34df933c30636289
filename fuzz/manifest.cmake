ramet_fuzz_target(manifest DEPS lib/store)
