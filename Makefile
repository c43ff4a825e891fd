# Front: `make` builds the release mode. `make run` and `make check` are added by tools/.
all:
	@test -d build/release || meson setup build/release
	@ninja -C build/release
.PHONY: all
