# SPDX-License-Identifier: Apache-2.0
# The front door. Meson does the work, in build/.
BUILD ?= build
SUITES ?= unit fuzz-replay netns packets kill system vm

.PHONY: all deps check check-sanitize demo bench install format clean

all: deps $(BUILD)/build.ninja
	ninja -C $(BUILD)

deps:
	packaging/deps

$(BUILD)/build.ninja: | deps
	meson setup $(BUILD)

# Every suite; the last line counts every test in them.
check: all
	tests/run $(BUILD) $(SUITES)

# The unit and netns suites again under the address and undefined sanitizers, and what has threads
# under the thread sanitizer.
check-sanitize: deps
	[ -f build-asan/build.ninja ] || meson setup build-asan -Db_sanitize=address,undefined
	ninja -C build-asan
	tests/run build-asan unit fuzz-replay netns
	[ -f build-tsan/build.ninja ] || meson setup build-tsan -Db_sanitize=thread
	ninja -C build-tsan
	tests/run build-tsan unit system agent

# 100 pods on a private Open vSwitch: the table here, the figures in demo/report.
demo: all
	rm -rf demo
	$(BUILD)/cmd/sluice bench --cni ovs-macvlan --pods 100 --sandbox process --out demo
	$(BUILD)/cmd/sluice report demo

# Side by side with peers: each prints its table. Takes half an hour.
bench: all
	benchmarks/cni-add/run $(BUILD)
	benchmarks/ovs-ports/run $(BUILD)
	benchmarks/gate/run $(BUILD)
	benchmarks/pool/run $(BUILD)
	benchmarks/rules/run $(BUILD)
	benchmarks/tc-routing/run $(BUILD)

install: all
	meson install -C $(BUILD)

format:
	git ls-files '*.[ch]' | xargs clang-format-14 -i

clean:
	rm -rf $(BUILD) build-asan build-tsan demo
