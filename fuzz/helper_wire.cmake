ramet_fuzz_target(helper_wire DEPS lib/helper/wire)
