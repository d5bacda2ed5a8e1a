package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/weir-limiter/weir/pkg/policy"
)

// TestEvents: an event stream arrives event by event, and a client that goes away in the midst of it gives
// back its place.
func TestEvents(t *testing.T) {
	mw, watched := limit(t, policy.Policy{Limit: 1, Algorithm: policy.AlgorithmConcurrency})
	next, left := make(chan string), make(chan struct{}, 1)
	r := start(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for {
			select {
			case event := <-next:
				fmt.Fprintf(w, "data: %s\n\n", event)
				w.(http.Flusher).Flush()
			case <-r.Context().Done():
				left <- struct{}{}
				return
			}
		}
	}, Options{Middleware: mw})
	for range 3 { // each has the only place
		ctx, goAway := context.WithCancel(t.Context())
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		events := make(chan string, 1)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			answer, err := r.client.Do(request)
			if err != nil {
				t.Error(err)
				return
			}
			defer answer.Body.Close()
			for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
				if lines.Text() != "" {
					events <- lines.Text()
				}
			}
		}()
		for i := range 3 {
			next <- fmt.Sprint(i) // the upstream sends nothing more until this has arrived
			if got, want := <-events, fmt.Sprintf("data: %d", i); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
		if answer, _ := r.do(t, "GET", "/", nil, nil); answer.StatusCode != 429 {
			t.Errorf("a second one: %d", answer.StatusCode)
		}
		goAway()
		<-ended
		<-left // the upstream hears of it, too
		<-watched.released
	}
}

func echo(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer conn.CloseNow()
	for {
		kind, message, err := conn.Read(r.Context())
		if err != nil || conn.Write(r.Context(), kind, message) != nil {
			return
		}
	}
}

func TestWebSocket(t *testing.T) {
	mw, watched := limit(t, policy.Policy{Limit: 1, Algorithm: policy.AlgorithmConcurrency})
	r := start(t, echo, Options{Middleware: mw})
	dial := func() (*websocket.Conn, *http.Response, error) {
		return websocket.Dial(t.Context(), r.url, &websocket.DialOptions{HTTPClient: r.client})
	}
	conn, answer, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	if answer.Header.Get("X-RateLimit-Limit") != "1" {
		t.Errorf("%v", answer.Header)
	}
	for i := range 10 {
		want := strings.Repeat("a", 1<<i)
		if err := conn.Write(t.Context(), websocket.MessageText, []byte(want)); err != nil {
			t.Fatal(err)
		}
		if _, got, err := conn.Read(t.Context()); err != nil || string(got) != want {
			t.Fatalf("%q, %v", got, err)
		}
	}
	if _, answer, err := dial(); err == nil || answer.StatusCode != 429 {
		t.Errorf("a second one: %v, %v", answer, err)
	}
	conn.CloseNow() // as if the client were gone
	<-watched.released
	again, _, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	again.CloseNow()
	<-watched.released
}

// TestServerEndsStreams: a server that ends leaves no upgraded connection behind, which nobody else would end.
func TestServerEndsStreams(t *testing.T) {
	mw, watched := limit(t, policy.Policy{Limit: 1, Algorithm: policy.AlgorithmConcurrency})
	r := start(t, echo, Options{Middleware: mw})
	conn, _, err := websocket.Dial(t.Context(), r.url, &websocket.DialOptions{HTTPClient: r.client})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if len(watched.released) != 1 {
		t.Error("the server ended before its request")
	}
	if _, _, err := conn.Read(t.Context()); err == nil {
		t.Error("the connection is still there")
	}
}

// TestUpload: a large body goes through as it comes, and not as a whole.
func TestUpload(t *testing.T) {
	const piece, pieces = 1 << 20, 64
	arrived := make(chan int, pieces+1)
	r := start(t, func(w http.ResponseWriter, r *http.Request) {
		buffer := make([]byte, piece)
		total := 0
		for {
			n, err := io.ReadFull(r.Body, buffer)
			total += n
			if err != nil {
				break
			}
			arrived <- total
		}
		fmt.Fprint(w, total)
	}, Options{MaxBody: piece * pieces})
	in, out := io.Pipe()
	go func() {
		for i := range pieces {
			if _, err := out.Write(make([]byte, piece)); err != nil {
				t.Error(err)
			}
			if i%8 == 7 { // the upstream has it, though the request is not over
				for got := range arrived {
					if got == piece*(i+1) {
						break
					}
				}
			}
		}
		out.Close()
	}()
	if answer, body := r.do(t, "PUT", "/", in, nil); answer.StatusCode != 200 || body != fmt.Sprint(piece*pieces) {
		t.Errorf("%d %s", answer.StatusCode, body)
	}
}

func TestBodyTooLarge(t *testing.T) {
	reached := make(chan struct{}, 2)
	r := start(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		reached <- struct{}{}
	}, Options{MaxBody: 10})
	body := strings.Repeat("a", 11)
	for name, in := range map[string]io.Reader{"announced": strings.NewReader(body), "chunked": io.MultiReader(strings.NewReader(body))} {
		answer, text := r.do(t, "POST", "/", in, nil)
		if answer.StatusCode != 413 || !strings.Contains(text, "the body is larger than 10 bytes") {
			t.Errorf("%s: %d %s", name, answer.StatusCode, text)
		}
	}
	<-reached // of the chunked one, its first part
	if len(reached) > 0 {
		t.Error("what was known to be too large got to the upstream")
	}
	if answer, _ := r.do(t, "POST", "/", strings.NewReader(body[:10]), nil); answer.StatusCode != 200 {
		t.Errorf("just small enough: %d", answer.StatusCode)
	}
}

// TestBodyStalls: who announces a body and does not send it gets an answer, whether it is let through or not,
// and gives back its place.
func TestBodyStalls(t *testing.T) {
	mw, watched := limit(t, policy.Policy{Limit: 1, Algorithm: policy.AlgorithmConcurrency})
	release := make(chan struct{})
	r := start(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			w.(http.Flusher).Flush()
			<-release
		}
		_, _ = io.Copy(io.Discard, r.Body)
	}, Options{StallTimeout: 50 * time.Millisecond, Middleware: mw})
	for _, sent := range []string{"half", ""} {
		stall(t, r.url, sent, http.StatusRequestTimeout)
		<-watched.released
	}
	answer, err := r.client.Get(r.url) // has the only place
	if err != nil {
		t.Fatal(err)
	}
	stall(t, r.url, "half", http.StatusTooManyRequests)
	close(release)
	answer.Body.Close()
	<-watched.released
}

// stall sends a part of a body, and waits for the answer.
func stall(t *testing.T, url, sent string, want int) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n"+sent)
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || answer.StatusCode != want || !answer.Close {
		t.Errorf("%q: %v, %v", sent, answer, err)
	}
}

// TestSlowAnswerOutlastsTheStall: the deadline of a body that has come is not one of the answer.
func TestSlowAnswerOutlastsTheStall(t *testing.T) {
	rest := make(chan struct{})
	r := start(t, func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return // of the one that stalls
		}
		_, _ = io.WriteString(w, "a")
		w.(http.Flusher).Flush()
		<-rest
		_, _ = io.WriteString(w, "b")
	}, Options{StallTimeout: 300 * time.Millisecond}) // longer than a busy machine keeps the proxy from running once it has read the body
	answer, err := r.client.Post(r.url, "", strings.NewReader("all of it"))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	stall(t, r.url, "half", http.StatusRequestTimeout) // who begins later is out of time: so would the first one be
	close(rest)
	if body, err := io.ReadAll(answer.Body); answer.StatusCode != 200 || string(body) != "ab" || err != nil {
		t.Errorf("%d %q, %v", answer.StatusCode, body, err)
	}
}

type duplex struct {
	testpb.UnimplementedTestServiceServer
}

func (duplex) FullDuplexCall(stream testpb.TestService_FullDuplexCallServer) error {
	for {
		if _, err := stream.Recv(); errors.Is(err, io.EOF) {
			return status.Error(codes.DataLoss, "as it were") // in a trailer
		} else if err != nil {
			return err
		}
		if err := stream.Send(&testpb.StreamingOutputCallResponse{}); err != nil {
			return err
		}
	}
}

// TestGRPC: a conversation in both directions goes through, without TLS on either side.
func TestGRPC(t *testing.T) {
	server := grpc.NewServer()
	defer server.Stop()
	testpb.RegisterTestServiceServer(server, duplex{})
	mw, _ := limit(t, policy.Policy{Limit: 1})
	r := start(t, server.ServeHTTP, Options{Upstream: &url.URL{Scheme: "h2c"}, Middleware: mw})
	conn, err := grpc.NewClient(strings.TrimPrefix(r.url, "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	stream, err := testpb.NewTestServiceClient(conn).FullDuplexCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if err := stream.Send(&testpb.StreamingOutputCallRequest{}); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.DataLoss {
		t.Errorf("%v", err)
	}
	if header, err := stream.Header(); err != nil || len(header.Get("x-ratelimit-limit")) != 1 {
		t.Errorf("%v, %v", header, err)
	}
	denied, err := testpb.NewTestServiceClient(conn).FullDuplexCall(t.Context())
	if err == nil {
		_, err = denied.Recv()
	}
	if status.Code(err) != codes.Unavailable { // what gRPC makes of HTTP's 429
		t.Errorf("%v", err)
	}
}
