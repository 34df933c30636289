ramet_fuzz_target(bzimage DEPS vmm/loader)
