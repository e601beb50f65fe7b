import type { NextConfig } from 'next'

const config: NextConfig = {
  output: 'standalone',
  // A lock file further up must not move the root of what standalone output copies.
  outputFileTracingRoot: import.meta.dirname,
  // The page has no images, so the image optimizer's native library stays out of the image.
  images: { unoptimized: true },
  outputFileTracingExcludes: { '**': ['node_modules/sharp/**', 'node_modules/@img/**'] },
  poweredByHeader: false,
  headers: async () => [
    {
      source: '/:path*',
      headers: [
        { key: 'Content-Security-Policy', value: "frame-ancestors 'none'" },
        { key: 'Referrer-Policy', value: 'same-origin' },
        { key: 'X-Content-Type-Options', value: 'nosniff' },
      ],
    },
  ],
}

export default config
