package events_test

import (
	"reflect"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
)

// A copy says what the session says, to the last field; only what an encoder
// has kept is not taken along.
func TestSessionCopy(t *testing.T) {
	var s events.Session
	v := reflect.ValueOf(&s).Elem()
	for i := range v.NumField() {
		f := v.Field(i)
		switch f.Addr().Interface().(type) {
		case *string:
			f.SetString("x")
		case *bool:
			f.SetBool(true)
		case *[]string:
			f.Set(reflect.ValueOf([]string{"x"}))
		case *time.Time:
			f.Set(reflect.ValueOf(time.Unix(1, 0)))
		case *events.Proved:
			f.Set(reflect.ValueOf(events.Proved{By: "x"}))
		case *events.Process:
			f.Set(reflect.ValueOf(events.Process{PID: 1}))
		case *events.TLS:
			f.Set(reflect.ValueOf(events.TLS{Version: "1.3"}))
		case *events.Certificate:
			f.Set(reflect.ValueOf(events.Certificate{SHA256: "x"}))
		}
	}
	s.Destination.UnmarshalText([]byte("192.0.2.1:1"))
	s.Reached.UnmarshalText([]byte("192.0.2.1:2"))
	s.ServerTLS.Store(&events.TLS{Version: "1.2"})
	s.ServerFrom.Store(&s.Reached)
	s.Encoded.Store(&[]byte{1})
	c := reflect.ValueOf(s.Copy()).Elem()
	for i := range v.NumField() {
		switch name := v.Type().Field(i).Name; {
		case name == "Encoded":
			if !c.Field(i).FieldByName("v").IsZero() {
				t.Error("what was encoded is taken along")
			}
		case c.Field(i).IsZero():
			t.Errorf("%s is not copied", name)
		}
	}
}
