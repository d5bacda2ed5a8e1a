package bench

//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -no-global-types -target bpfel,bpfeb driver ../../bpf/bench/driver.bpf.c -- -O2 -mcpu=v3 -Wall -Wextra -Werror -nostdinc -I../../headers
//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -no-global-types -type sent -target bpfel,bpfeb sender ../../bpf/bench/sender.bpf.c -- -O2 -mcpu=v3 -Wall -Wextra -Werror -nostdinc -I../../headers

// The program to compare with is a file beside its source, so that no binary ever has it. One byte order will do: there is
// nothing to compare with on a machine of the other, and weir bench says so.
//go:generate clang-19 -target bpfel -g -O2 -mcpu=v3 -Wall -Wextra -Werror -nostdinc -I../../headers -fdebug-compilation-dir=. -c ../../bpf/bench/lru.bpf.c -o ../../bpf/bench/lru.bpf.o
//go:generate llvm-strip-19 -g ../../bpf/bench/lru.bpf.o
