# sana-wm.c: `make help` lists the targets.
#
#   BUILD=DIR       where objects and programs go (build)
#   ARCH=native     instruction set of the CPU kernels, as gcc's -march (x86-64-v3 for a binary that travels)
#   BLAS=openblas   pkg-config name of the CBLAS
#   CUDA=DIR        CUDA toolkit 12.8 or later with cuDNN 9; builds the GPU backend too (without: CPU only)
#   CUDA_ARCHS=...  GPUs to build for (90a 80 89 100 120)
#   SANITIZE=1      AddressSanitizer and UBSan, in a build folder of its own
#   PREFIX=/usr/local, DESTDIR=    for `make install`

MAKEFLAGS += --no-builtin-rules
# All processors, unless the caller says otherwise.
ifeq ($(filter -j% --jobs%,$(MAKEFLAGS)),)
MAKEFLAGS += --jobs=$(shell nproc)
endif
.SUFFIXES:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := all

VERSION := 0.1.0
CC ?= cc
ifeq ($(origin CC),default)
CC := cc
endif
ARCH ?= native
BLAS ?= openblas
PREFIX ?= /usr/local
PKG_CONFIG ?= pkg-config
PACKAGES := $(BLAS) libavformat libavcodec libswscale libavutil yaml-0.1 libcjson zlib

ifdef SANITIZE
BUILD ?= build/sanitize
SANITIZERS := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
endif
BUILD ?= build

# Lazily, so that `make deps` and `make help` run before the libraries are there.
package_cflags = $(shell $(PKG_CONFIG) --cflags $(PACKAGES))
package_libs = $(shell $(PKG_CONFIG) --libs $(PACKAGES))

WARNINGS := -Wall -Wextra -Wshadow -Wconversion
CFLAGS ?= -O3 -g
FLAGS = -std=c11 -D_GNU_SOURCE -fopenmp -fPIC -fvisibility=hidden -MMD -MP -march=$(ARCH) $(WARNINGS) $(CFLAGS) \
        $(SANITIZERS) -Iinclude -Isrc -DSWM_VERSION='"$(VERSION)"' -DSWM_DATADIR='"$(PREFIX)/share/sanawm"'
LIBS = $(package_libs) $(CUDA_LIBS) -lm -lpthread

SOURCES := $(wildcard src/*.c src/*/*.c)
SOURCES := $(filter-out src/cuda/%,$(SOURCES))
ifdef CUDA
KERNELS := $(wildcard src/cuda/*.cu)
CUDA_ARCHS ?= 90a 80 89 100 120
CUDA_LIBS := -L$(CUDA)/lib64 -lcublasLt -lcudart_static -lstdc++ -ldl -lrt
NVCC_FLAGS := -O3 -std=c++17 -lineinfo -Xcompiler -fPIC,-Wall,-Wextra -Iinclude -Isrc \
              $(foreach arch,$(CUDA_ARCHS),-gencode arch=compute_$(arch),code=sm_$(arch))
else
SOURCES += src/cuda/absent.c
endif
BENCH := $(filter-out bench/main.c bench/worker.c,$(wildcard bench/*.c))
CLI := $(wildcard cli/*.c) $(BENCH)
TESTS := $(wildcard tests/*.c)
FUZZERS := $(wildcard tests/fuzz/fuzz_*.c)
OBJECTS := $(SOURCES:%.c=$(BUILD)/%.o) $(KERNELS:%.cu=$(BUILD)/%.o) $(BUILD)/src/camera/viewer.o
BENCH_OBJECTS := $(BENCH:%.c=$(BUILD)/%.o) $(BUILD)/bench/commit.o
CLI_OBJECTS := $(CLI:%.c=$(BUILD)/%.o) $(BUILD)/bench/commit.o
TEST_OBJECTS := $(TESTS:%.c=$(BUILD)/%.o)

LIBRARY := $(BUILD)/libsanawm.a
SHARED := $(BUILD)/libsanawm.so.0
PROGRAM := $(BUILD)/sanawm

.PHONY: all help deps kernels test golden demo install uninstall clean format format-check fuzz valgrind bench-pytorch

all: $(LIBRARY) $(SHARED) $(PROGRAM)

help:
	@echo 'make demo      install what is missing, build, and write demo.mp4 from the toy world'
	@echo 'make test      build and run the tests [ONLY="group ..."]'
	@echo 'make           build the library and build/sanawm'
	@echo 'make golden GOLDEN=DIR [DEVICE=cpu] [DTYPE=f32]   compare every golden file in DIR'
	@echo 'make fuzz [SECONDS=60]   run every fuzz target (clang)'
	@echo 'make valgrind  a short demo under valgrind'
	@echo 'make bench-pytorch [PYTHON=python3] [THREADS=n]   side by side with PyTorch (bench/README.md)'
	@echo 'make kernels CUDA=/usr/local/cuda   compile the GPU backend for every GPU'
	@echo 'make install   library, header, pkg-config file and program below PREFIX'
	@echo 'make deps      install the Debian packages of tools/debian-packages.txt'
	@echo 'make format    clang-format; make format-check only looks'

# The CPU kernels may fuse multiply and add, and need not keep the order of traps or errno, without which gcc does not
# vectorise; no value changes by that. Everywhere else rounding stays as written (resampling weights, cameras).
$(BUILD)/src/cpu/%.o: src/cpu/%.c
	@mkdir -p $(@D)
	$(CC) $(FLAGS) -ffp-contract=fast -fno-trapping-math -fno-math-errno $(package_cflags) -c $< -o $@

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(FLAGS) -ffp-contract=off $(package_cflags) -c $< -o $@

# The page that plays camera paths travels inside the library, as a string.
$(BUILD)/src/camera/viewer.c: src/camera/viewer.html tools/embed.awk
	@mkdir -p $(@D)
	awk -v name=swm_viewer_html -v header=camera/html.h -f tools/embed.awk $< > $@

$(BUILD)/src/camera/viewer.o: $(BUILD)/src/camera/viewer.c src/camera/html.h
	$(CC) $(FLAGS) -c $< -o $@

# What the benchmarks' results say they were measured on; written anew only when it has changed.
.PHONY: commit
$(BUILD)/bench/commit.c: commit
	@mkdir -p $(@D)
	@echo "extern const char bench_commit[];" > $@.new
	@echo "const char bench_commit[] = \"$$(git describe --always --dirty=+ 2>/dev/null)\";" >> $@.new
	@cmp -s $@.new $@ && rm $@.new || mv $@.new $@
$(BUILD)/bench/commit.o: $(BUILD)/bench/commit.c
	$(CC) $(FLAGS) -c $< -o $@

$(BUILD)/%.o: %.cu
	@mkdir -p $(@D)
	$(CUDA)/bin/nvcc $(NVCC_FLAGS) -MMD -MP -c $< -o $@

$(LIBRARY): $(OBJECTS)
	rm -f $@
	ar rcs $@ $^

$(SHARED): $(OBJECTS)
	$(CC) -shared -Wl,-soname,$(@F) -Wl,-z,defs -fopenmp $(SANITIZERS) $^ $(LIBS) -o $@
	ln -sf $(@F) $(BUILD)/libsanawm.so

$(PROGRAM): $(CLI_OBJECTS) $(LIBRARY)
	$(CC) -fopenmp $(SANITIZERS) $^ $(LIBS) -o $@

# tests/run.c and tests/golden_main.c are the two programs; everything else in tests/ serves both.
TEST_PARTS := $(filter-out $(BUILD)/tests/run.o $(BUILD)/tests/golden_main.o,$(TEST_OBJECTS))
GOLDEN_PARTS := $(BUILD)/tests/tolerance.o $(filter $(BUILD)/tests/golden%,$(TEST_PARTS))
# Fuzz targets all define the same function; for the tests each gets the name of its file.
FUZZ_OBJECTS := $(FUZZERS:%.c=$(BUILD)/%.o)

$(BUILD)/tests/fuzz/%.o: tests/fuzz/%.c
	@mkdir -p $(@D)
	$(CC) $(FLAGS) -ffp-contract=off $(package_cflags) -DLLVMFuzzerTestOneInput=$(*F) -c $< -o $@

# The wrapped function tells the runner how many tests a group has.
$(BUILD)/tests/fuzz/targets.c: $(FUZZERS)
	@mkdir -p $(@D)
	@{ echo '#include <stddef.h>'; echo '#include <stdint.h>'; \
	   echo 'typedef struct { const char *name; int (*run)(const uint8_t *data, size_t size); } named_target;'; \
	   for name in $(FUZZERS:tests/fuzz/%.c=%); do echo "int $$name(const uint8_t *data, size_t size);"; done; \
	   echo 'extern const named_target swm_fuzz_targets[]; extern const int swm_fuzz_target_count;'; \
	   echo 'const named_target swm_fuzz_targets[] = {'; \
	   for name in $(FUZZERS:tests/fuzz/%.c=%); do echo "    {\"$$name\", $$name},"; done; echo '};'; \
	   echo 'const int swm_fuzz_target_count = sizeof swm_fuzz_targets / sizeof *swm_fuzz_targets;'; } > $@

$(BUILD)/tests/fuzz/targets.o: $(BUILD)/tests/fuzz/targets.c
	$(CC) $(FLAGS) -c $< -o $@

$(BUILD)/run-tests: $(BUILD)/tests/run.o $(TEST_PARTS) $(FUZZ_OBJECTS) $(BUILD)/tests/fuzz/targets.o $(LIBRARY)
	$(CC) -fopenmp $(SANITIZERS) $^ $(LIBS) $(shell $(PKG_CONFIG) --libs cmocka) \
	    -Wl,--wrap=_cmocka_run_group_tests -o $@

$(BUILD)/golden: $(BUILD)/tests/golden_main.o $(GOLDEN_PARTS) $(LIBRARY)
	$(CC) -fopenmp $(SANITIZERS) $^ $(LIBS) -o $@

# The example is built against the shared library, as a user would build it.
$(BUILD)/example: examples/generate.c $(SHARED)
	$(CC) -std=c11 $(WARNINGS) $(CFLAGS) $(SANITIZERS) -Iinclude $< -L$(BUILD) -lsanawm -Wl,-rpath,'$$ORIGIN' -o $@

# Compiles the kernels for every GPU of CUDA_ARCHS; needs no GPU.
kernels: $(KERNELS:%.cu=$(BUILD)/%.o)

# The GPU tests link core, cuda, model and what reads weights, and carry their libraries along where they can, so that the
# program runs on a bare CUDA machine.
CUDA_TEST_OBJECTS := $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/cuda/*.c))
BARE_LIBS := -l:libopenblas.a -l:libavutil.a -l:libyaml.a -l:libz.a -lcjson $(CUDA_LIBS) -lm -lpthread
$(BUILD)/cuda-tests: $(CUDA_TEST_OBJECTS) $(LIBRARY)
	$(CC) -fopenmp $^ $(BARE_LIBS) -o $@
$(BUILD)/bench-bare: $(addprefix $(BUILD)/,bench/main.o cli/bench.o cli/args.o cli/console.o) $(BENCH_OBJECTS) $(LIBRARY)
	$(CC) -fopenmp $^ $(BARE_LIBS) -o $@
$(BUILD)/golden-bare: $(BUILD)/tests/golden_main.o $(GOLDEN_PARTS) $(LIBRARY)
	$(CC) -fopenmp $^ $(BARE_LIBS) -o $@

deps:
	@tools/install-packages build $(PACKAGES) cmocka

# Threads that wait for each other by spinning take minutes on a machine that others use too.
test: deps
	@$(MAKE) --no-print-directory all $(BUILD)/run-tests $(BUILD)/example
	OMP_WAIT_POLICY=passive $(BUILD)/run-tests $(ONLY)

# GOLDEN=DIR: every golden file in a directory. DEVICE=cpu, DTYPE=f32.
GOLDEN ?= tests/golden
DEVICE ?= cpu
DTYPE ?= f32
golden: deps
	@$(MAKE) --no-print-directory $(BUILD)/golden
	$(BUILD)/golden $(GOLDEN) --device $(DEVICE) --dtype $(DTYPE)

# ACTION="w-16,aw-16" and SCENE=0, 1 or 2 make another clip.
demo: deps
	@$(MAKE) --no-print-directory $(PROGRAM)
	$(PROGRAM) demo $(ACTION) $(if $(SCENE),--scene $(SCENE)) --output demo.mp4

valgrind: $(PROGRAM)
	OMP_WAIT_POLICY=passive valgrind --error-exitcode=1 --leak-check=full --errors-for-leak-kinds=definite --suppressions=tests/valgrind.supp \
	    $(PROGRAM) demo w-8 --steps 2 --threads 1 --quiet --output $(BUILD)/valgrind.mp4

# PYTHON needs torch, diffusers, safetensors and numpy: bench/README.md.
PYTHON ?= python3
THREADS ?= $(shell nproc)
ROUNDS ?= 10
$(BUILD)/bench-worker: $(BUILD)/bench/worker.o $(filter-out %/report.o %/compare.o %/whole.o,$(BENCH_OBJECTS)) $(LIBRARY)
	$(CC) -fopenmp $(SANITIZERS) $^ $(LIBS) -o $@

bench-pytorch: $(BUILD)/bench-worker
	$(PYTHON) bench/compare_pytorch.py --worker $(BUILD)/bench-worker --threads $(THREADS) --rounds $(ROUNDS)

# Fuzzing needs clang. A target links what it uses of the library.
SECONDS ?= 60
FUZZ_PROGRAMS := $(FUZZERS:tests/fuzz/%.c=build/fuzz/%)
fuzz: $(FUZZ_PROGRAMS)
	@for program in $(FUZZ_PROGRAMS); do \
	    name=$$(basename $$program); mkdir -p build/fuzz/found/$$name tests/fuzz/corpus/$$name; \
	    echo "== $$name"; \
	    $$program -max_total_time=$(SECONDS) -verbosity=0 -print_final_stats=1 -artifact_prefix=build/fuzz/found/$$name- \
	        build/fuzz/found/$$name tests/fuzz/corpus/$$name || exit 1; \
	done

FUZZ_FLAGS := -std=c11 -D_GNU_SOURCE -g -O1 -fno-sanitize-recover=all -Iinclude -Isrc -DSWM_VERSION='"$(VERSION)"'
build/fuzz/%: tests/fuzz/%.c build/fuzz/library.a
	clang $(FUZZ_FLAGS) -fsanitize=fuzzer,address,undefined $(package_cflags) $^ $(LIBS) -lgomp -o $@

build/fuzz/objects/%.o: %.c
	@mkdir -p $(@D)
	clang $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link,address,undefined $(package_cflags) -c $< -o $@

build/fuzz/library.a: $(SOURCES:%.c=build/fuzz/objects/%.o)
	rm -f $@ && ar rcs $@ $^

FORMATTED := $(wildcard include/*.h src/*.[ch] src/*/*.[ch] cli/*.[ch] tests/*.[ch] tests/fuzz/*.[ch] examples/*.c bench/*.[ch])
format:
	clang-format -i $(FORMATTED)
format-check:
	clang-format --dry-run -Werror $(FORMATTED)

# Where an installed program finds the toy world.
DATADIR := $(PREFIX)/share/sanawm

install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/include $(DESTDIR)$(PREFIX)/lib/pkgconfig $(DESTDIR)$(DATADIR)
	install -m 755 $(PROGRAM) $(DESTDIR)$(PREFIX)/bin/sanawm
	install -m 644 include/sanawm.h $(DESTDIR)$(PREFIX)/include/sanawm.h
	install -m 644 $(LIBRARY) $(DESTDIR)$(PREFIX)/lib/libsanawm.a
	install -m 755 $(SHARED) $(DESTDIR)$(PREFIX)/lib/$(notdir $(SHARED))
	ln -sf $(notdir $(SHARED)) $(DESTDIR)$(PREFIX)/lib/libsanawm.so
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' -e 's|@LIBS@|$(strip $(package_libs) $(CUDA_LIBS))|' tools/sanawm.pc.in \
	    > $(DESTDIR)$(PREFIX)/lib/pkgconfig/sanawm.pc
	cp -r models $(DESTDIR)$(DATADIR)/

uninstall:
	rm -rf $(DESTDIR)$(PREFIX)/bin/sanawm $(DESTDIR)$(PREFIX)/include/sanawm.h $(DESTDIR)$(PREFIX)/lib/libsanawm.* \
	    $(DESTDIR)$(PREFIX)/lib/pkgconfig/sanawm.pc $(DESTDIR)$(DATADIR)

clean:
	rm -rf build

-include $(OBJECTS:.o=.d) $(CLI_OBJECTS:.o=.d) $(TEST_OBJECTS:.o=.d) $(FUZZ_OBJECTS:.o=.d)
