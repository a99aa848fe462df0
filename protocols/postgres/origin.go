package postgres

import "encoding/binary"

// attributed puts into a RowDescription of which relations masked columns are: the server
// sees expressions of no relation. What is not as the analysis has it stays as the
// server said it. The message was read by checkRow.
func (c *conn) attributed(msg []byte) action {
	r := &c.reply
	n := int(int16(binary.BigEndian.Uint16(msg[headLen:])))
	if n != r.cur.width {
		return passed
	}
	r.buf = append(r.buf[:0], msg...)
	origins := r.cur.origins
	m := cursor{b: r.buf[headLen+2:]}
	for i := range n {
		m.str()
		of := m.take(4 + 2)
		m.take(4 + 2 + 4 + 2)
		if len(origins) == 0 || origins[0].Index != i {
			continue
		}
		if binary.BigEndian.Uint32(of) == 0 {
			binary.BigEndian.PutUint32(of, origins[0].Table)
			binary.BigEndian.PutUint16(of[4:], uint16(origins[0].Attnum))
		}
		origins = origins[1:]
	}
	return replaced
}
