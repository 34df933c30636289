ramet_fuzz_target(elf DEPS vmm/loader)
