// Package grpclimit puts a limiter in front of a gRPC server: an interceptor for unary calls, and one for
// streams.
package grpclimit
