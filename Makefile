# sana-wm.c: `make help` lists the targets.
#
#   BUILD=DIR       where objects and programs go (build)
#   ARCH=native     instruction set of the CPU kernels, as gcc's -march (x86-64-v3 for a binary that travels)
#   BLAS=openblas   pkg-config name of the CBLAS
#   SANITIZE=1      AddressSanitizer and UBSan, in a build folder of its own
#   PREFIX=/usr/local, DESTDIR=    for `make install`

MAKEFLAGS += --no-builtin-rules
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
        $(SANITIZERS) -Iinclude -Isrc -DSWM_VERSION='"$(VERSION)"'
LIBS = $(package_libs) -lm -lpthread

SOURCES := $(wildcard src/*.c src/*/*.c)
SOURCES := $(filter-out src/cuda/%,$(SOURCES))
CLI := $(wildcard cli/*.c)
TESTS := $(wildcard tests/*.c)
FUZZERS := $(wildcard tests/fuzz/fuzz_*.c)
OBJECTS := $(SOURCES:%.c=$(BUILD)/%.o)
CLI_OBJECTS := $(CLI:%.c=$(BUILD)/%.o)
TEST_OBJECTS := $(TESTS:%.c=$(BUILD)/%.o)

LIBRARY := $(BUILD)/libsanawm.a
SHARED := $(BUILD)/libsanawm.so.0
PROGRAM := $(BUILD)/sanawm

.PHONY: all help deps test golden demo examples install uninstall clean format format-check fuzz valgrind bench-cpu

all: $(LIBRARY) $(SHARED) $(PROGRAM)

help:
	@echo 'make demo      install what is missing, build, and write demo.mp4 from the toy world'
	@echo 'make test      build and run the tests'
	@echo 'make           build the library and build/sanawm'
	@echo 'make golden GOLDEN=DIR [DEVICE=cpu] [DTYPE=f32]   compare every golden file in DIR'
	@echo 'make fuzz [SECONDS=60]   run every fuzz target (clang)'
	@echo 'make valgrind  the demo under valgrind'
	@echo 'make install   library, header, pkg-config file and program below PREFIX'
	@echo 'make deps      install the Debian packages of tools/debian-packages.txt'
	@echo 'make format    clang-format; make format-check only looks'

# The CPU kernels may fuse multiply and add; everywhere else rounding stays as written (resampling weights, cameras).
$(BUILD)/src/cpu/%.o: src/cpu/%.c
	@mkdir -p $(@D)
	$(CC) $(FLAGS) -ffp-contract=fast $(package_cflags) -c $< -o $@

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(FLAGS) -ffp-contract=off $(package_cflags) -c $< -o $@

$(LIBRARY): $(OBJECTS)
	rm -f $@
	ar rcs $@ $^

$(SHARED): $(OBJECTS)
	$(CC) -shared -Wl,-soname,$(@F) -Wl,-z,defs -fopenmp $(SANITIZERS) $^ $(LIBS) -o $@
	ln -sf $(@F) $(BUILD)/libsanawm.so

$(PROGRAM): $(CLI_OBJECTS) $(LIBRARY)
	$(CC) -fopenmp $(SANITIZERS) $^ $(LIBS) -o $@

$(BUILD)/run-tests: $(TEST_OBJECTS) $(LIBRARY)
	$(CC) -fopenmp $(SANITIZERS) $^ $(LIBS) $(shell $(PKG_CONFIG) --libs cmocka) -o $@

$(BUILD)/golden: $(BUILD)/tests/golden/main.o $(filter-out $(BUILD)/tests/run.o,$(TEST_OBJECTS)) $(LIBRARY)
	$(CC) -fopenmp $(SANITIZERS) $^ $(LIBS) $(shell $(PKG_CONFIG) --libs cmocka) -o $@

deps:
	@tools/install-packages $(PACKAGES) cmocka

test: deps
	@$(MAKE) --no-print-directory all $(BUILD)/run-tests
	$(BUILD)/run-tests $(GROUPS)

clean:
	rm -rf build

-include $(OBJECTS:.o=.d) $(CLI_OBJECTS:.o=.d) $(TEST_OBJECTS:.o=.d)
