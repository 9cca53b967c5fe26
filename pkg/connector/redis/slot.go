package redis

import (
	"strconv"
	"strings"
	"sync"
)

// slots is the number of hash slots among which a Redis Cluster divides keys.
const slots = 1 << 14

// slotOf returns the slot of a key on a Redis Cluster. If the key has braces with a text between them, that text decides, else
// the whole key.
func slotOf(key string) int {
	if open := strings.IndexByte(key, '{'); open >= 0 {
		if tag, _, ok := strings.Cut(key[open+1:], "}"); ok && tag != "" {
			key = tag
		}
	}
	var crc uint16 // XMODEM's
	for i := range len(key) {
		crc ^= uint16(key[i]) << 8
		for range 8 {
			if carry := crc&0x8000 != 0; carry {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return int(crc % slots)
}

// slotTags returns a short text for each slot, which puts a key into the slot if it stands between braces.
var slotTags = sync.OnceValue(func() *[slots]string {
	var tags [slots]string
	for n, left := 0, slots; left > 0; n++ {
		text := strconv.FormatInt(int64(n), 36)
		if tag := &tags[slotOf(text)]; *tag == "" {
			*tag = text
			left--
		}
	}
	return &tags
})
