package protocols

import (
	"fmt"
	"runtime"
	"strings"
)

// Fault is a panic of one of a session's goroutines, carried to the one that
// runs Serve: where it was, never what, which could hold data.
type Fault struct{ Place string }

// Caught turns what recover returned into a Fault; nil stays nil. Call it in
// the deferred function that recovers.
func Caught(recovered any) *Fault {
	switch r := recovered.(type) {
	case nil:
		return nil
	case *Fault:
		return r
	}
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs)])
	var places []string
	for len(places) < 8 {
		f, more := frames.Next()
		if !strings.HasPrefix(f.Function, "runtime.") {
			places = append(places, fmt.Sprintf("%s:%d", f.Function, f.Line))
		}
		if !more {
			break
		}
	}
	return &Fault{strings.Join(places, " < ")}
}
