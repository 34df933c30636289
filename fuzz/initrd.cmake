ramet_fuzz_target(initrd DEPS vmm/loader)
