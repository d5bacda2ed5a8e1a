// Package loader puts weir's programs into the kernel, and keeps them there without a process.
//
// All of it is pinned below one state directory in a bpf file system:
//
//	/sys/fs/bpf/weir/
//	    table                  every bucket, shared by all interfaces and hooks, as are all that follow
//	    tags                   a byte of each entry, to tell strangers by
//	    slots                  what each CPU knows of buckets
//	    bans4, bans6           timed bans
//	    control                what user space tells the programs while packets go by
//	    events                 samples of the traffic
//	    hot, hot_control       sources that other nodes are to be told of; how much they use until then
//	    identity               the secret of the hash, and the layout's version
//	    xdp:eth0@4026531840/   an attachment: hook, interface, network namespace; "%2e" stands for a dot
//	        link-native        what holds the program on the hook, named by the mode: a link, or for
//	                           clsact a symbolic link whose target is a note of what was made
//	        set-1234/          a program, by its id, with the maps that are its own
//	            program
//	            constants      the policies, as the program has them (.rodata)
//	            document       the same, as they were written
//	            sources4, sources6, ports   what they match
//	            policy_stats   counters, kept when the policies change
//	            interface_stats
//
// [StateDir.AttachAll] is a transaction. Policies are constants of a program, so a change loads a new
// program beside the running one; the swap on the hook is the one step that counts, and it is atomic
// for packets. Whatever fails before or after it is undone.
//
// Of an attachment's sets, the one in force is that of the program which the hold has on the hook.
// Readers ask the kernel for it and need no lock; a set that is not in force is what a change is about
// to make true, has just replaced, or left when it was killed. An attachment begins with its hold.
package loader
