package lab

import "testing"

func TestFloodReachesTheGateway(t *testing.T) {
	families(t, func(t *testing.T, v6 bool) {
		l := testLab(t, "spoof")
		sink := testSink(t, l.Gateway(), 9, l.Client("spoof"), l.Gateway())
		sniffer := testSniffer(t, l.Gateway())
		f := Flood{Host: l.Client("spoof"), Target: target(l.Gateway(), v6, 9), Payload: 18, Seed: 1, Load: Load{Rate: 20_000, Count: 10_000}}
		if err := f.Run(testContext(t)); err != nil {
			t.Fatal(err)
		}
		if f.Sent()+f.Failed() != 10_000 {
			t.Errorf("sent %d, failed %d, want 10 000 in all", f.Sent(), f.Failed())
		}
		if err := sink.Await(testContext(t), f.Sent()*99/100); err != nil {
			t.Error(err)
		}
		if known := sink.Total() - sink.Others().Packets; known != 0 {
			t.Errorf("%d datagrams bear an address of the lab", known)
		}
		if err := sniffer.Await(testContext(t), f.Sent()*99/100); err != nil {
			t.Error(err)
		}
		if n := len(sniffer.Counts()); n < 9800 {
			t.Errorf("%d sources, want almost one per frame", n)
		}
	})
}

func TestFloodOfFewSources(t *testing.T) {
	p := testPair(t, PairSpec{})
	sniffer := testSniffer(t, p.B)
	f := Flood{Host: p.A, Target: target(p.B, false, 9), Sources: 10, Load: Load{Rate: 10_000, Count: 1000}}
	if err := f.Run(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if err := sniffer.Await(testContext(t), f.Sent()); err != nil {
		t.Fatal(err)
	}
	for key, n := range sniffer.Counts() {
		if n != 100 {
			t.Errorf("%v: %d frames, want 100 from each of 10", key, n)
		}
	}
}

func TestInjectTaggedFrames(t *testing.T) {
	p := testPair(t, PairSpec{})
	sniffer := testSniffer(t, p.B)
	want := map[FrameKey]uint64{}
	var frames [][]byte
	for n, tags := range [][]VLAN{nil, {{ID: 7}}, {{TPID: TPIDService, ID: 100}, {ID: 7, Priority: 3}}} {
		for _, v6 := range []bool{false, true} {
			f := p.A.Frame(target(p.B, v6, 9))
			f.VLANs = tags
			b, err := f.Bytes()
			if err != nil {
				t.Fatal(err)
			}
			key := FrameKey{Source: f.Src}
			if len(tags) > 0 {
				key.Outer = tags[0].ID
			}
			if len(tags) > 1 {
				key.Inner = tags[1].ID
			}
			for range 10 * (n + 1) {
				frames = append(frames, b)
				want[key]++
			}
		}
	}
	if err := Inject(testContext(t), p.A, 0, frames...); err != nil {
		t.Fatal(err)
	}
	if err := sniffer.Await(testContext(t), uint64(len(frames))); err != nil {
		t.Fatal(err)
	}
	expectFrames(t, sniffer, want)
}

// What the frame builder makes, a kernel accepts.
func TestInjectedDatagramsAreReceived(t *testing.T) {
	p := testPair(t, PairSpec{})
	sink := testSink(t, p.B, 9, p.A)
	families(t, func(t *testing.T, v6 bool) {
		before := sink.Total()
		frame, err := p.A.Frame(target(p.B, v6, 9)).Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if err := Inject(testContext(t), p.A, 1000, frame, frame, frame); err != nil {
			t.Fatal(err)
		}
		if err := sink.Await(testContext(t), before+3); err != nil {
			t.Error(err)
		}
	})
}
