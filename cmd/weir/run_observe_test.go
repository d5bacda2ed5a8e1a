package main_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"

	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
)

// get asks the daemon.
func (s *site) get(path string) (int, string, error) {
	return s.request(s.dialTCP, http.MethodGet, "http://"+runHTTP+path, "", "")
}

// dialTCP connects to server.http, which is in the protected host.
func (s *site) dialTCP(context.Context, string, string) (conn net.Conn, err error) {
	return conn, s.A.Do(func() (err error) { conn, err = net.Dial("tcp", runHTTP); return err })
}

// waitReady waits until /readyz has that status, and gives its body.
func (s *site) waitReady(status int) (body string) {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("readyz to answer %d", status), func() error {
		got, text, err := s.get("/readyz")
		body = text
		if err == nil && got != status {
			err = fmt.Errorf("it answers %d: %s", got, text)
		}
		return err
	})
	return body
}

// attachments reads what is attached, as any other process can.
func (s *site) attachments() []loader.Attachment {
	s.t.Helper()
	d, err := loader.Open(s.stateDir)
	if errors.Is(err, loader.ErrNothingAttached) {
		return nil
	}
	if err != nil {
		s.t.Fatal(err)
	}
	var all []loader.Attachment
	if err := s.A.Do(func() (err error) { all, err = d.Attachments(); return err }); err != nil {
		s.t.Fatal(err)
	}
	return all
}

// attachment is the one attachment there is to be.
func (s *site) attachment() loader.Attachment {
	s.t.Helper()
	all := s.attachments()
	if len(all) != 1 || all[0].State != loader.StateAttached {
		s.t.Fatalf("attachments: %+v, want one, attached", all)
	}
	return all[0]
}

// tokens reads how many are in B's bucket.
func (s *site) tokens() uint64 {
	s.t.Helper()
	a := s.attachment()
	d, err := loader.Open(s.stateDir)
	if err != nil {
		s.t.Fatal(err)
	}
	b, err := d.OpenBuckets()
	if err != nil {
		s.t.Fatal(err)
	}
	defer b.Close()
	return b.Bucket(&a.Policies[0], loader.Key{Source: s.B.IPv4}, loader.Now()).Tokens
}

// send sends packets from B to A, and waits until the policy has judged so many in all.
func (s *site) send(packets int, total uint64) map[policy.Verdict]loader.Count {
	s.t.Helper()
	var conn net.PacketConn
	if err := s.B.Do(func() (err error) { conn, err = net.ListenPacket("udp4", ":0"); return err }); err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	for range packets {
		if _, err := conn.WriteTo([]byte("weir"), &net.UDPAddr{IP: s.A.IPv4.AsSlice(), Port: 9}); err != nil {
			s.t.Fatal(err)
		}
	}
	var verdicts map[policy.Verdict]loader.Count
	eventually(s.t, fmt.Sprintf("%d packets to be judged", total), func() error {
		verdicts = s.attachment().Counters.Policies["per-client"]
		sum := verdicts[policy.VerdictPass].Packets + verdicts[policy.VerdictDrop].Packets
		if sum != total {
			return fmt.Errorf("%d were: %v", sum, verdicts)
		}
		return nil
	})
	return verdicts
}
