// Package middleware puts a limiter in front of handlers of net/http, and writes what a client is told: the
// rate limit headers in either dialect, and the answer to what is denied.
//
// Interceptors for gRPC are in package grpclimit, beside this one, so that a program without gRPC does not
// link it.
package middleware
