package lab

import "testing"

// What one end sends the other receives, to the frame, and nothing else is on the cable.
func TestCounters(t *testing.T) {
	p := testPair(t, PairSpec{})
	sink := testSink(t, p.B, 9, p.A)
	udp := UDPClient{Host: p.A, Target: target(p.B, false, 9), Payload: 40, Load: Load{Count: 100}}
	if err := udp.Run(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if err := sink.Await(testContext(t), udp.Sent()); err != nil {
		t.Fatal(err)
	}
	a, err := p.A.Counters()
	if err != nil || a != (InterfaceCounters{Sent: 100}) {
		t.Errorf("a: %+v, %v; want 100 sent", a, err)
	}
	b, err := p.B.Counters()
	if err != nil || b != (InterfaceCounters{Received: 100}) {
		t.Errorf("b: %+v, %v; want 100 received", b, err)
	}
	p.Close()
	if _, err := p.B.Counters(); err == nil {
		t.Error("counters of a closed namespace")
	}
}
