ramet_fuzz_target(virtio_block DEPS devices/block devices/virtio)
