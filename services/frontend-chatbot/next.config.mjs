/** @type {import('next').NextConfig} */
const config = {
  output: 'standalone',
  // The page has no images, so the image optimizer has nothing to do.
  images: { unoptimized: true },
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
