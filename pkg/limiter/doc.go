// Package limiter decides over requests: who is asking, for what, and whether one of the policies is
// against it.
//
// A [Limiter] finds the policies that apply to a request, by falling priority, and charges all of them or
// none: what a request is denied costs no other policy a token. Its buckets are in a table of fixed size,
// pkg/bucket's, in ordinary memory: a decision allocates nothing, takes no lock and makes no system call.
//
// How limit, window and burst become a decision is for an [Algorithm]; those that a policy can name are
// listed with [policy.Algorithms], and a program can bring its own.
package limiter
