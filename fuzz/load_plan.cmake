ramet_fuzz_target(load_plan DEPS vmm/loader)
