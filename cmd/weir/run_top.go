package main

import (
	"context"
	"net/http"
	"time"

	"github.com/weir-limiter/weir/internal/top"
	"github.com/weir-limiter/weir/pkg/loader"
)

// topIdle is after how long without a question the programs need not emit events any more.
const topIdle = 30 * time.Second

// attachments reads what is attached. The goroutine that changes attachments reads them, as one that is
// being made anew can't be read.
func (d *daemon) attachments() (all []loader.Attachment, err error) {
	if doErr := d.do(context.Background(), func() { all, err = d.packets.reconciler.own() }); doErr != nil {
		return nil, doErr
	}
	return all, err
}

// topHandler answers /v1/top; nil if there are no events.
func (d *daemon) topHandler() http.Handler {
	if d.packets == nil || d.packets.top == nil {
		return nil
	}
	return top.Handler(d.packets.top)
}
