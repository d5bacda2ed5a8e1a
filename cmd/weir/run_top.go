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

// openEvents makes the daemon the listener to the events, so that many can look at once. A daemon that
// can't listen limits all the same.
func (d *daemon) openEvents(runDir string) {
	events, err := d.dir.OpenEvents(runDir)
	if err != nil {
		d.log.Warn("weir top can't ask this daemon", "error", err)
		return
	}
	d.events = events
	d.top = top.New(top.Options{Listener: events, Attachments: d.attachments, Now: loader.Monotonic, Idle: topIdle})
}

// attachments reads what is attached. The goroutine that changes attachments reads them, as one that is
// being made anew can't be read.
func (d *daemon) attachments() (all []loader.Attachment, err error) {
	if doErr := d.do(context.Background(), func() { all, err = d.reconciler.own() }); doErr != nil {
		return nil, doErr
	}
	return all, err
}

// runTop collects until ctx ends. That it fails is no reason for the daemon to end.
func (d *daemon) runTop(ctx context.Context) error {
	if err := d.top.Run(ctx); err != nil {
		d.log.Error("weir top learns nothing any more", "error", err)
	}
	return nil
}

// topHandler answers /v1/top; nil if there are no events.
func (d *daemon) topHandler() http.Handler {
	if d.top == nil {
		return nil
	}
	return top.Handler(d.top)
}
