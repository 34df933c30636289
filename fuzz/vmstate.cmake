ramet_fuzz_target(vmstate DEPS vmm/machine)
