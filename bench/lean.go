package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	ratelimit "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/proto"
)

// leanConnections carry a load's questions, as many at a time as rlsLoad has: Envoy has a connection for each of its threads, and
// sends together what came together.
const leanConnections = 2

// leanLoad asks what rlsLoad does, with less work for the client, which shares the cores with the server: every question is written as
// prepared bytes, and of an answer only what has to be is read. It is as httpLoad is beside net/http's client.
func leanLoad(of descriptors) load {
	requests := of.messages()
	return func(_ context.Context, s *server, d time.Duration) (float64, error) {
		return onEach(leanConnections, d, func(at int, until time.Time) (int, error) {
			c, err := dialLean(s.grpc)
			if err != nil {
				return 0, err
			}
			defer c.conn.Close()
			return c.ask(of, requests, newRandom(at), until)
		})
	}
}

// messages are the requests as gRPC sends them: no compression, a length, and the message.
func (d descriptors) messages() [][]byte {
	var all [][]byte
	for _, r := range d.requests() {
		text, err := proto.Marshal(r)
		if err != nil {
			panic(err) // of constants
		}
		all = append(all, append([]byte{0, 0, 0, 0, byte(len(text))}, text...))
	}
	return all
}

// leanConn is an HTTP/2 connection with gRPC calls of one method.
type leanConn struct {
	conn    net.Conn
	in      *bufio.Reader
	out     *bufio.Writer
	framer  *http2.Framer
	headers *hpack.Decoder
	block   []byte // the headers of a request, all of them known to the server
	stream  uint32
	status  string // of the headers that were read last
}

func dialLean(address string) (*leanConn, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	c := &leanConn{conn: conn, in: bufio.NewReaderSize(conn, 64<<10), out: bufio.NewWriterSize(conn, 64<<10), stream: 1}
	c.framer = http2.NewFramer(c.out, c.in)
	c.framer.SetReuseFrames()
	c.headers = hpack.NewDecoder(4096, func(f hpack.HeaderField) {
		if f.Name == "grpc-status" {
			c.status = f.Value
		}
	})
	c.out.WriteString(http2.ClientPreface)
	// Answers of a turn fit into the window that is opened here. The server opens its own again long before the few
	// questions that are under way fill it.
	err = errors.Join(c.framer.WriteSettings(), c.framer.WriteWindowUpdate(0, 1<<30))
	return c, err
}

// headerBlock are a request's headers. The first time they enter the server's table, from then on they are a few numbers.
func (c *leanConn) headerBlock(e *hpack.Encoder, to *bytes.Buffer) error {
	for _, f := range []hpack.HeaderField{
		{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"}, {Name: ":authority", Value: "ratelimit"},
		{Name: ":path", Value: ratelimit.RateLimitService_ShouldRateLimit_FullMethodName},
		{Name: "content-type", Value: "application/grpc"}, {Name: "te", Value: "trailers"},
	} {
		if err := e.WriteField(f); err != nil {
			return err
		}
	}
	c.block = append(c.block[:0], to.Bytes()...)
	to.Reset()
	return nil
}

// send writes a question, which goes out with the next flush.
func (c *leanConn) send(message []byte) error {
	err := c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: c.stream, BlockFragment: c.block, EndHeaders: true})
	if err == nil {
		err = c.framer.WriteData(c.stream, true, message)
	}
	c.stream += 2
	return err
}

// ask keeps questions under way until the time is over, and all are answered.
func (c *leanConn) ask(of descriptors, messages [][]byte, choose *random, until time.Time) (n int, err error) {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for i := range connections / leanConnections {
		if i < 2 {
			if err := c.headerBlock(encoder, &block); err != nil {
				return 0, err
			}
		}
		if err := c.send(messages[choose.below(len(messages))]); err != nil {
			return 0, err
		}
	}
	other := 0
	for waiting := connections / leanConnections; waiting > 0; {
		if c.in.Buffered() == 0 {
			if err := c.out.Flush(); err != nil {
				return n, err
			}
		}
		code, ended, err := c.read()
		if err != nil {
			return n, err
		}
		if code != 0 && of.code != ratelimit.RateLimitResponse_UNKNOWN && code != of.code {
			other++
		}
		if !ended {
			continue
		}
		n++
		waiting--
		if time.Now().Before(until) {
			waiting++
			if err := c.send(messages[choose.below(len(messages))]); err != nil {
				return n, err
			}
		}
	}
	return n, of.tolerate(other, n)
}

// read reads a frame: an answer's code is in one, and its end in another.
func (c *leanConn) read() (code ratelimit.RateLimitResponse_Code, ended bool, err error) {
	frame, err := c.framer.ReadFrame()
	if err != nil {
		return 0, false, err
	}
	switch f := frame.(type) {
	case *http2.DataFrame:
		// The first field of the message is overall_code.
		if m := f.Data(); len(m) >= 7 && m[0] == 0 && m[5] == 1<<3 {
			return ratelimit.RateLimitResponse_Code(m[6]), f.StreamEnded(), nil
		}
		return 0, false, errors.New("an answer has no code")
	case *http2.HeadersFrame:
		c.status = ""
		if _, err := c.headers.Write(f.HeaderBlockFragment()); err != nil {
			return 0, false, err
		}
		if f.StreamEnded() && c.status != "0" {
			return 0, false, fmt.Errorf("the call ended with status %q", c.status)
		}
		return 0, f.StreamEnded(), nil
	case *http2.SettingsFrame:
		if !f.IsAck() {
			err = c.framer.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			err = c.framer.WritePing(true, f.Data)
		}
	case *http2.RSTStreamFrame, *http2.GoAwayFrame:
		return 0, false, fmt.Errorf("the server sent %v", frame)
	}
	return 0, false, err
}
