package bench

import (
	"testing"

	"github.com/weir-limiter/weir/internal/testutil"
)

func TestMain(m *testing.M) { testutil.Main(m) }
