package server

import (
	"errors"
	"net"
	"testing"
)

// TestBounded: a connection too many is taken when another has gone, and who waits is told of the end.
func TestBounded(t *testing.T) {
	l, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := Bounded(l, 2)
	type accepted struct {
		net.Conn
		error
	}
	got := make(chan accepted)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := b.Accept()
			got <- accepted{conn, err}
			if err != nil {
				return
			}
		}
	}()
	for range 3 {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	first, second := <-got, <-got
	if first.error != nil || second.error != nil {
		t.Fatal(first.error, second.error)
	}
	select {
	case third := <-got:
		t.Fatalf("a third is there: %+v", third)
	default:
	}
	first.Close()
	first.Close() // makes room once
	third := <-got
	if third.error != nil || len(b.(*boundedListener).room) != 2 {
		t.Errorf("%+v, and %d connections, want 2", third, len(b.(*boundedListener).room))
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if last := <-got; !errors.Is(last.error, net.ErrClosed) {
		t.Errorf("at the end: %+v, want %v", last, net.ErrClosed)
	}
	<-done
	second.Close()
	third.Close()
}
