package middleware

import (
	"log/slog"
	"net/http"
	"runtime/debug"
)

// Recovered keeps a handler that panics from being logged by net/http, which would name the client, and cuts the
// answer off, as net/http does.
func Recovered(log *slog.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			reason := recover()
			if reason == nil {
				return
			}
			if reason != http.ErrAbortHandler {
				log.Error("a request could not be answered; this is a defect of weir, please report it",
					"panic", reason, "stack", string(debug.Stack()))
			}
			// Part of the answer may be gone already: only closing the connection tells the client.
			panic(http.ErrAbortHandler)
		}()
		next.ServeHTTP(w, r)
	})
}
