// Command bench measures weir's layer 7 path beside what people use in its place, and beside servers that do
// nothing:
//
//	go run . [-rounds N] [-for D] [-only SECTION] [-weir FILE] [-o json]
//
// Contenders take turns within a round, and every figure of a comparison is the median of the rounds' ratios:
// what else the machine does meets all of them. Sections nodes-strict, nodes-leased and nodes-rls, together nodes, need redis-server and
// measure limits that nodes share. It is a module of its own, so that nobody who uses weir gets
// the libraries that it is compared with.
package main
