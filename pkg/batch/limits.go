package batch

// Limits bounds the size of rows and batches. A field that is zero or negative means its default.
type Limits struct {
	// RowBytes bounds the size of one row. Default 1 MiB.
	RowBytes int
	// BatchBytes bounds the size of all rows of a batch together. Default 8 MiB.
	BatchBytes int
	// BatchRows bounds the number of rows of a batch. Default 65,536.
	BatchRows int
}

// WithDefaults returns the limits with the default in place of each field that is zero or negative.
func (l Limits) WithDefaults() Limits {
	if l.RowBytes <= 0 {
		l.RowBytes = 1 << 20
	}
	if l.BatchBytes <= 0 {
		l.BatchBytes = 8 << 20
	}
	if l.BatchRows <= 0 {
		l.BatchRows = 65536
	}
	return l
}
