package loader

//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -no-global-types -target bpfel,bpfeb -type policy -type rate -type slot -type source_rule -type few_source -type lpm_ipv4 -type lpm_ipv6 -type ban -type control_page -type hot_page -type hash_key -type bucket_limit -type bucket_set -type bucket_entry -type policy_counters -type interface_counters -type table_identity xdp ../../bpf/xdp.bpf.c -- -O2 -mcpu=v3 -Wall -Wextra -Werror -nostdinc -I../../headers
//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -no-global-types -target bpfel,bpfeb tc ../../bpf/tc.bpf.c -- -O2 -mcpu=v3 -Wall -Wextra -Werror -nostdinc -I../../headers
