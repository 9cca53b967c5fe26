package wire

// CutText is cutText for tests.
var CutText = cutText
