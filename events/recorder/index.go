package recorder

import "sallyport.dev/sallyport/events"

func (a *adder) index(host string, r *events.Record) error { return nil }
