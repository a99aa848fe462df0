package recorder

import "sallyport.dev/sallyport/events"

// The form of a stored block, for tests that edit a store as an insider would.

func Block(rs []events.Record) (heads, bodies []byte) { return new(blockWriter).block(rs) }

var ReadBlock = readBlock

// Schema1 is what the first version made.
var Schema1 = migrations[0].sql
