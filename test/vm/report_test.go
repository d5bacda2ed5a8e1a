package main

import (
	"strings"
	"testing"
)

// What a machine wrote, and what is made of it.
func TestReport(t *testing.T) {
	const (
		booted = `{"Action":"vm-booted","Output":"6.1.0-9-cloud-amd64"}` + "\n"
		run    = `{"Action":"run","Package":"a","Test":"T"}` + "\n"
		says   = `{"Action":"output","Package":"a","Test":"T","Output":"    a_test.go:7: because\n"}` + "\n"
		pass   = `{"Action":"pass","Package":"a","Test":"T","Elapsed":1}` + "\n"
		fail   = `{"Action":"fail","Package":"a","Test":"T"}` + "\n"
		skip   = `{"Action":"skip","Package":"a","Test":"T"}` + "\n"
		ended  = `{"Action":"output","Package":"a","Output":"PASS\n"}` + "\n" + `{"Action":"pass","Package":"a"}` + "\n"
		other  = `{"Action":"run","Package":"a","Test":"U"}` + "\n" + `{"Action":"pass","Package":"a","Test":"U"}` + "\n"
		done   = `{"Action":"vm-done"}` + "\n"
	)
	all := []suite{{Package: "a"}}
	for _, tt := range []struct {
		name, events string
		suites       []suite
		ok           bool
		want         string
	}{
		{"all passed", booted + run + says + pass + ended + done, all, true,
			"kernel 6.1.0-9-cloud-amd64, 4 CPUs: 1 tests passed, 0 failed, 0 skipped, in 0s"},
		{"one skipped", booted + run + says + skip + other + ended + done, all, true,
			"1 tests passed, 0 failed, 1 skipped (a T: a_test.go:7: because), in 0s"},
		{"one failed", booted + run + says + fail + other + ended + done, all, false,
			"FAIL on kernel 6.1.0-9-cloud-amd64, 4 CPUs: a T\n    a_test.go:7: because\n"},
		{"the package failed after its tests", booted + run + pass + `{"Action":"output","Package":"a","Output":"leak\n"}` + "\n" +
			`{"Action":"fail","Package":"a"}` + "\n" + done, all, false, "CPUs: a\nleak\n"},
		{"none ran", booted + ended + done, all, false, "a: no tests ran"},
		{"only skips", booted + run + skip + ended + done, all, false, "a: no tests ran"},
		{"a second suite without tests", booted + run + pass + ended + done, []suite{{Package: "a"}, {Package: "b"}}, false, "b: no tests ran"},
		{"no test of the second matches", booted + run + pass + ended + done, []suite{{Package: "a"}, {Package: "b", Run: "x"}}, true, "1 tests passed"},
		{"no test of any matches", booted + ended + done, []suite{{Package: "a", Run: "x"}}, false, "no tests ran"},
		{"a test hangs", booted + run + says, all, false, "a T did not end; its output so far:\n    a_test.go:7: because\n"},
		{"the machine ends early", booted + run + pass + ended, all, false, "the last lines of its console:\nbooting\nOops\n"},
		{"suites could not run", booted + run + pass + `{"Action":"vm-broken","Output":"load veth.ko: no memory"}` + "\n", all, false, "load veth.ko: no memory"},
		{"it never booted", "", all, false, "kernel 6.1, 4 CPUs: 0 tests passed"},
		{"noise", booted + "[  1.0] noise\n" + run + pass + ended + done, all, false, "which is no event"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newReport()
			r.console = []byte("booting\r\nOops\r\n")
			r.read(strings.NewReader(tt.events))
			var b strings.Builder
			if ok := r.write(&b, machine{Kernel: "6.1", CPUs: 4, Suites: tt.suites}, false); ok != tt.ok {
				t.Errorf("all is well: %v, want %v", ok, tt.ok)
			}
			if !strings.Contains(b.String(), tt.want) {
				t.Errorf("wrote %q, want %q in it", b.String(), tt.want)
			}
		})
	}
}

// What -kernel and -run leave of the plan.
func TestChoose(t *testing.T) {
	one := choose(machines, "6.1", "TestX")
	if len(one) != 1 || one[0].Kernel != "6.1" {
		t.Fatalf("chose %+v, want the machine with 6.1", one)
	}
	for _, s := range one[0].Suites {
		if s.Run != "TestX" {
			t.Errorf("%s runs %q", s.Package, s.Run)
		}
	}
	if machines[0].Suites[0].Run != "" {
		t.Error("the plan itself was changed")
	}
	if none := choose(machines, "5.99", ""); none != nil {
		t.Errorf("chose %+v", none)
	}
}
