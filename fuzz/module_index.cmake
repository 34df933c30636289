ramet_fuzz_target(module_index DEPS lib/image)
