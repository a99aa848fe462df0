package sink_test

import (
	"reflect"
	"strings"

	"sallyport.dev/sallyport/events/sink"
)

// fields lists the paths of all fields of the configuration.
func fields() (out []string) {
	var walk func(t reflect.Type, prefix string)
	walk = func(t reflect.Type, prefix string) {
		for i := range t.NumField() {
			tag, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
			if tag == "" {
				continue
			}
			ft := t.Field(i).Type
			switch ft.Kind() {
			case reflect.Pointer:
				walk(ft.Elem(), prefix+tag+".")
				continue
			case reflect.Slice:
				if ft.Elem().Kind() == reflect.Struct {
					walk(ft.Elem(), "sinks[].")
					continue
				}
			}
			out = append(out, prefix+tag)
		}
	}
	walk(reflect.TypeOf(sink.Settings{}), "")
	return out
}
