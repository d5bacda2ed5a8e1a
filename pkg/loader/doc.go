// Package loader puts weir's programs into the kernel, and keeps them there without a process.
//
// All of it is pinned below one state directory in a bpf file system:
//
//	/sys/fs/bpf/weir/
//	    table                  every bucket, shared by all interfaces
//	    identity               the secret of the hash, and the layout's version
//	    xdp:eth0@4026531840/   an attachment: hook, interface, network namespace; "%2e" stands for a dot
//	        link               what holds the program on the interface
//	        program
//	        constants          the policies, as the program has them (.rodata)
//	        policy_stats       counters, kept when the policies change
//	        interface_stats
//
// [StateDir.Attach] is a transaction. Policies are constants of a program, so a change loads a new
// program beside the running one; the swap of the link is the one step that counts, and it is atomic
// for packets. Whatever fails before or after it is undone.
package loader
